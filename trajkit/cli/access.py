"""Options of commands that serve: where they listen, and who may ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trajkit.live.access import Access

WHERE = "Address and access"
"""Heading of these options in a command's help."""

HostOption = Annotated[
    str,
    typer.Option("--host", rich_help_panel=WHERE, help="Address to listen at; any but this machine's needs --token."),
]
PortOption = Annotated[
    int, typer.Option("--port", min=0, max=65535, rich_help_panel=WHERE, help="0 for any that is free.")
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="TRAJKIT_TOKEN",
        show_envvar=True,
        rich_help_panel=WHERE,
        help="What clients must bear as their API key; a browser opens the link that is printed.",
    ),
]
AllowHostOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        metavar="NAME",
        rich_help_panel=WHERE,
        help="A further name that the server goes by, behind a proxy say. Others are refused, so that no site can have "
        "its own name point here.",
    ),
]
AllowOriginOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-origin", metavar="URL", rich_help_panel=WHERE, help="A site whose pages may ask too; else none may."
    ),
]


def access(
    host: str, token: str | None, hosts: Sequence[str] | None = None, origins: Sequence[str] | None = None
) -> Access:
    """Who may ask a server at `host`. Wrong usage where `Access.at` refuses it."""
    from trajkit.cli.output import UsageError
    from trajkit.errors import InputError
    from trajkit.live.access import Access

    try:
        return Access.at(host, token, hosts or (), origins or ())
    except InputError as error:
        raise UsageError(str(error)) from error
