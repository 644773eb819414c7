"""Names, versions, aliases, compositions, recipes, evaluations and their lists."""
