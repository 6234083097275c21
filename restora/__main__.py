"""`python -m restora` is the command `restora`."""

from restora.cli import main

main()
