"""The program `campaign`, which `python -m campaign` is too."""

import signal


def main() -> None:
    """Load the program and run it. While it is being loaded, Ctrl-C ends it without a word: there is nothing to tell yet."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not where it is ignored, as under nohup
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from campaign import cli

    cli.main()


if __name__ == "__main__":
    main()
