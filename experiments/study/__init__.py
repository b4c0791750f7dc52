"""The study: does hindsight really do it? See docs/study."""
