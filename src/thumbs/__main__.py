"""`python -m thumbs` is `thumbs`."""

from thumbs.cli import main

if __name__ == "__main__":
    main()
