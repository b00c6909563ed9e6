"""What people see of a race: `sooner.report.html` writes the offline page, `sooner.report.table` the terminal table.

Both read the referee's result, a plain dictionary, and nothing else; neither needs torch.
"""
