"""What the product says of itself: metrics, logs, the audit log; health and status of tokens."""
