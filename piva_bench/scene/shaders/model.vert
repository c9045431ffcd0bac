#version 330
uniform mat4 model;
uniform mat4 camera;
in vec3 position;
in vec3 normal;
in vec2 uv;
in vec2 glow_uv;
in vec4 tint;
out vec3 place;   // position in the world
out vec3 facing;
out vec2 coordinate;
out vec2 glow_coordinate;
out vec4 colour;  // of the vertex, as light
void main() {
    place = (model * vec4(position, 1.0)).xyz;
    facing = mat3(model) * normal;
    coordinate = uv;
    glow_coordinate = glow_uv;
    colour = tint;
    gl_Position = camera * vec4(place, 1.0);
}
