"""Pictures of what was found: plots of spectra, bands and tables, and contact sheets."""
