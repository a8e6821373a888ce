"""What a kernel launch takes: measured machine profiles and the analytic model over them."""
