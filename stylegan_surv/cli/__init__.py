"""The ``stylegan-surv`` command: each subcommand is a module that parses, calls the library and prints."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib import import_module

import click

from cuda_ops import tune_allocator
from stylegan_surv import __version__
from stylegan_surv._files import printable
from stylegan_surv.errors import InputError

# command -> (module under this package, one line for the overview); a module is imported when it is used
COMMANDS = {
    "align": ("align", "Find, crop and grade the face in every photograph."),
    "split": ("split", "Write patient-level fine-tune and evaluate sets."),
    "train": ("train", "Train a generator and its encoder on a folder of chips."),
    "grow": ("grow", "Double a generator's resolution by one more block."),
    "finetune": ("finetune", "Fine-tune a pretrained generator on patients' photographs."),
    "embed": ("embed", "Invert a cohort's photographs into W+ latents."),
    "latents": ("latents", "Look at, check, compact and export latents."),
    "train-encoder": ("train_encoder", "Train an encoder to W+ for any generator."),
    "fit": ("fit", "Cross-validate survival models on latents and write the report."),
    "report": ("report", "Draw the report of a saved study again."),
    "predict": ("predict", "Risk scores of a fitted model for a latents folder."),
    "validate-external": ("validate_external", "Evaluate a fitted model on a new cohort."),
    "edit": ("edit", "Draw a photograph along the health attribute."),
    "app": ("app", "The health attribute of a study in the browser, on this machine."),
    "forget": ("forget", "Remove what is kept of a patient who withdraws."),
    "demo": ("demo", "The whole line on simulated patients, with a known truth."),
    "classify": ("classify", "Tell cases from controls by their faces, and ask what else could."),
    "convert": ("convert", "Read a StyleGAN2 checkpoint of any layout and write it as safetensors."),
    "fetch-weights": ("fetch_weights", "Fetch an auxiliary network once, against a pinned hash."),
    "zoo": ("zoo", "List the bundled networks with their cards."),
    "doctor": ("doctor", "Tell what this machine runs and why."),
}
RESUMING = (
    "align",
    "embed",
    "train",
    "finetune",
    "grow",
    "train-encoder",
    "classify",
)  # what was interrupted goes on
LIKE = 0.6  # similarity from which a name is suggested, as Python's difflib has it


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"{__name__}.{COMMANDS[name][0]}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, with a suggestion where the name is unknown."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            like = get_close_matches(args[0], COMMANDS, n=1, cutoff=LIKE)
            hint = f" Did you mean '{like[0]}'?" if like else ""
            ctx.fail(f"No such command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Lazy)
@click.version_option(__version__)
def cli() -> None:
    """Photographs and follow-up in; survival model, C-index and health attribute out."""


def main() -> None:
    """Run the command; exit 2 with one message where the input is at fault."""
    tune_allocator()  # this process is ours
    try:
        code = cli.main(standalone_mode=False)  # click returns the code of ctx.exit() here
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        goes_on = (
            " The same command goes on where it stopped." if sys.argv[1:2] and sys.argv[1] in RESUMING else ""
        )
        click.echo(f"Interrupted.{goes_on}", err=True)
        sys.exit(130)
    except click.ClickException as wrong:
        wrong.show()
        sys.exit(2)
    except InputError as wrong:
        click.echo(f"Error: {printable(wrong.for_command_line())}", err=True)
        sys.exit(2)
    except OSError as wrong:  # a disk that is full or gone, wherever it was noticed
        click.echo(f"Error: {printable(str(wrong))}", err=True)
        sys.exit(2)
