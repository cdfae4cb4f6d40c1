"""Looks into PromQL expressions: every node, every selector with the function around it, every range."""

from collections.abc import Iterator

import promql_parser as promql


def walk(expression: promql.Expr) -> Iterator[promql.Expr]:
    """Yield an expression and every one inside it."""
    yield expression
    for child in _children(expression):
        yield from walk(child)


def selectors(
    expression: promql.Expr, function: str | None = None
) -> Iterator[tuple[promql.VectorSelector, str | None]]:
    """Yield every selector with the function that is applied to it directly, if any."""
    if isinstance(expression, promql.VectorSelector):
        yield expression, function
    elif isinstance(expression, promql.MatrixSelector):
        yield expression.vector_selector, function
    else:
        inner = expression.func.name if isinstance(expression, promql.Call) else None
        for child in _children(expression):
            yield from selectors(child, inner)


def ranges(expression: promql.Expr) -> Iterator[promql.MatrixSelector]:
    """Yield every range."""
    yield from (node for node in walk(expression) if isinstance(node, promql.MatrixSelector))


def _children(expression: promql.Expr) -> tuple[promql.Expr, ...]:
    if isinstance(expression, promql.BinaryExpr):
        return expression.lhs, expression.rhs
    if isinstance(expression, promql.Call):
        return tuple(expression.args)
    if isinstance(expression, promql.AggregateExpr | promql.ParenExpr | promql.UnaryExpr | promql.SubqueryExpr):
        return (expression.expr,)
    return ()
