"""`python -m dmtl_cli` is `dmtl`: torchrun starts Python modules, not scripts."""

from dmtl_cli.cli.main import main

if __name__ == "__main__":
    main()
