#version 330
// Shadow pass: depth of everything that stands on the set, seen by one directional light.
uniform mat4 model;
uniform mat4 light;
in vec3 position;
void main() { gl_Position = light * model * vec4(position, 1.0); }
