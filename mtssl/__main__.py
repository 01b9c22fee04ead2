"""`python -m mtssl` is the command line."""
from mtssl.app.cli import main

if __name__ == '__main__': main()
