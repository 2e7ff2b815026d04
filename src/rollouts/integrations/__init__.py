"""Other tools: what they take from us, and we from them."""
