"""``ptec housekeeping`` for spark-submit: removal of old rows and files."""

from ptec_jobs.cli import main

if __name__ == "__main__":
    main("housekeeping")
