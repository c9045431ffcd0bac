"""3D: posed views of a scene, the renderer that takes them, and the radiance field that an edit moves."""
