"""The sample world: scenes of emoji, their captions, their renderings, and the photos that `clipkit demo` writes."""
