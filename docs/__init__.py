"The documentation: its generator and the files that every page loads."
