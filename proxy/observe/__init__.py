"""What the product says of itself: metrics, request_metrics, logs; health and status of tokens."""
