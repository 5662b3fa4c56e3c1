"""`python -m dmtl_cli.cli`: torchrun starts Python modules, not scripts."""

from dmtl_cli.cli.main import main

if __name__ == "__main__":
    main()
