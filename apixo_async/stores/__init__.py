"""What processes that use one account keep together, outside of any of them."""
