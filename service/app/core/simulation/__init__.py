"""The shadow simulation: from a proposal and the rules in force to the plan that validators sign."""
