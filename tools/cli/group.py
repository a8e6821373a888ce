"""The group of all commands; a command's module is imported when it is named or listed."""

from importlib import import_module

import click

import tilewright

COMMANDS = (
    *("compile", "pareto", "tune", "opt", "inspect", "run", "verify", "bench", "targets", "demo"),
)
SHELLS = ("bash", "zsh", "fish")
PROGRAM = "tilewright"
COMPLETE_VARIABLE = "_TILEWRIGHT_COMPLETE"


class LazyGroup(click.Group):
    """Commands by the name of their module in this folder."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"tilewright.tools.cli.{cmd_name}").command
        assert isinstance(command, click.Command), f"{cmd_name}: no command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            from tilewright.compiler.errors import nearest

            if args[0].startswith("-"):
                raise
            raise click.UsageError(
                f"No such command {args[0]!r}; {nearest(args[0], COMMANDS)}", ctx
            ) from None


def print_completion(ctx: click.Context, parameter: click.Parameter, shell: str | None) -> None:
    """Print the script that teaches a shell to complete our commands and options."""
    if shell is None or ctx.resilient_parsing:
        return
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None, f"click has no completion for {shell}"
    click.echo(found(ctx.command, {}, PROGRAM, COMPLETE_VARIABLE).source())
    ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  tilewright demo
  tilewright compile model.onnx -o model.tw
  tilewright verify model.onnx model.tw --shape batch=1
  tilewright inspect model.tw --plan

Every command has --help and --json (one JSON document on stdout, nothing else there).

\b
Exit status:
  0  done
  1  the model, the data, the target or this machine is at fault, or the run was interrupted
  2  wrong usage
  3  a fault of Tilewright; the message has the path of a dump to report

\b
Completion:
  eval "$(tilewright --completion bash)"      in ~/.bashrc; the same with zsh in ~/.zshrc
  tilewright --completion fish > ~/.config/fish/completions/tilewright.fish
""",
)
@click.version_option(tilewright.__version__, "--version", prog_name=PROGRAM)
@click.option(
    "--completion",
    type=click.Choice(SHELLS),
    is_eager=True,
    expose_value=False,
    callback=print_completion,
    help="Print the completion script of a shell and exit.",
)
def cli() -> None:
    """Compile ONNX models ahead of time, and look at, run, check and time what comes out."""
