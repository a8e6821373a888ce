"""Why structure of weights is not used: what reports say, read without the compiler."""

from __future__ import annotations

REASONS = {
    "chance": "below the null model",
    "bound": "beyond the bound alone",
    "slower": "slower by the cost model",
    "budget": "worth less than its error",
}
"""In the order in which it is asked."""
