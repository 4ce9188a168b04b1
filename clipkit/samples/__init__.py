"""The sample world: scenes of emoji, their captions, their pictures, and the library of the demo."""
