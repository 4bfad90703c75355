"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from apixo_async import Provider

#: Alone it stands for all failures: see `app`.
RETRY_FAILED: Final = "--retry-failed"

KeyFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file",
        metavar="PATH",
        help="File whose first line is the API key. Without it: APIXO_API_KEY.",
    ),
]
BaseUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        metavar="URL",
        help="Where the API is: HTTPS, or a loopback address. Without it: APIXO_BASE_URL, else the"
        " service's own.",
    ),
]
AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Write JSON to stdout, one document a line.")
]
Model: TypeAlias = Annotated[
    str, typer.Argument(metavar="MODEL", help="Name of the model, such as gpt-image-1.")
]
TaskId: TypeAlias = Annotated[
    str, typer.Argument(metavar="TASK_ID", help="The service's id of the task.")
]
Timeout: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0.0,
        help="Stop waiting after this time; the task itself goes on.",
    ),
]

# What `generate` takes; the defaults named here are those of the inputs.

Prompt: TypeAlias = Annotated[
    str, typer.Argument(metavar="PROMPT", help="What to make; - reads it from stdin.")
]
AspectRatio: TypeAlias = Annotated[
    str | None, typer.Option("--aspect-ratio", help="Such as 3:2. gpt-image-1: 1:1 unless given.")
]
NumImages: TypeAlias = Annotated[
    int | None, typer.Option("--num-images", help="Each is billed. gpt-image-1: 1 unless given.")
]
ImageUrls: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--image-url", metavar="URL", help="A reference image; repeatable."),
]
Resolution: TypeAlias = Annotated[
    str | None, typer.Option("--resolution", help="gpt-image-2: 1k, 2k or 4k.")
]
Mode: TypeAlias = Annotated[
    str | None, typer.Option("--mode", help="flux-kontext: pro unless given, or max.")
]
OutputFormat: TypeAlias = Annotated[
    str | None, typer.Option("--output-format", help="flux-kontext: jpeg or png.")
]
Sets: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any other field of the input: JSON where it is JSON, else text. Repeatable.",
    ),
]
ByProvider: TypeAlias = Annotated[
    Provider | None, typer.Option("--provider", help="Route of the service.")
]
YesUnknownModel: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--yes-unknown-model", help="The model's name is right, though it looks misspelt."
    ),
]
Out: TypeAlias = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Where the files go; made where missing.")
]
NoWait: TypeAlias = Annotated[
    bool, typer.Option("--no-wait", help="Only submit; print the model and the task's id.")
]
