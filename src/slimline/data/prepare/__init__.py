"""Any source to arrays: decode, bring to one size, divide, check, write."""
