"""``python -m metasiam``, which is also what ``torchrun -m metasiam`` starts."""

from metasiam.cli import main

if __name__ == "__main__":
    main()
