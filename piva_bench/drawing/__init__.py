"""OpenGL without a window: textured triangles, shaders, an EGL context. What is drawn is not its business."""
