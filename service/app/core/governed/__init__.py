"""What is governed: targets, the proposals that change them, and the life of a proposal."""
