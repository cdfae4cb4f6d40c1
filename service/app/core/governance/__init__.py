"""The documents that govern: the root of trust, the policies, the validators, and the genesis that founds them."""
