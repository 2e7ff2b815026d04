"""`python -m rollouts`: the command line."""

from rollouts.cli import main

if __name__ == "__main__":
    main()
