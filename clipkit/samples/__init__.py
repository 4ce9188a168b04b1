"""The sample world: scenes of emoji, their captions, how they are painted, and the photos that `clipkit demo` writes."""
