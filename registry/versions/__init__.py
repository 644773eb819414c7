"""Names, versions, aliases, compositions, recipes, evaluations, lists."""
