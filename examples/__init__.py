"""Sample APIs to put Farebox in front of. They know nothing of Farebox, and the product never imports them."""
