"""The command line, as `mtssl` and as `python -m mtssl`; Ctrl-C is answered with one line from the first moment on."""
import os, signal


def _stop(*_):  # nothing is begun yet, so nothing is to be kept; Python itself would print a traceback of whatever it is importing
    os.write(2, b'mtssl: stopped.\n')
    os._exit(130)


_stop.only_at_start = True  # the console takes over with the command, see `errors_in_words` of mtssl.app.console


def main():
    "Run the command line"
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler: signal.signal(signal.SIGINT, _stop)
    from mtssl.app.cli import main as run
    run()


if __name__ == '__main__': main()
