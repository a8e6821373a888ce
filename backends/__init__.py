"""From IR graphs to bytes: targets, kernel families, code generators and the artifact writer."""
