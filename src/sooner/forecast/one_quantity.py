"""What the laws in a single quantity share: the column they read is the caller's choice, and so is the target."""

from __future__ import annotations

from sooner.error import SoonerError
from sooner.forecast.law import Law
from sooner.forecast.table import Table


class OneQuantity(Law):
    """A law of one column x, which has to be positive.

    Args:
        over: the column x.
        target: the column to predict.
    """

    def __init__(self, over: str = "tokens", target: str = "loss") -> None:
        self.needs = (over,)  # type: ignore[misc]
        self.over = over  # type: ignore[misc]
        self.target = target  # type: ignore[misc]

    def table(self, table: Table, *, target: bool = True) -> Table:
        """Return the table with the columns that this law needs, checked.

        Raises:
            SoonerError: a column is missing, or x or the target is not positive and finite.
        """
        return positive(super().table(table, target=target), self.over, self.name)


def positive(table: Table, column: str, law: str) -> Table:
    """Return the table as it is, if all values of the column are positive; steps, for one, may start at zero.

    Raises:
        SoonerError: one is not.
    """
    if len(table) and not table[column].min() > 0:
        raise SoonerError(
            f"{law} takes powers of {column}, which is {table[column].min():g} in a row; "
            f"leave out rows where {column} is not positive"
        )
    return table
