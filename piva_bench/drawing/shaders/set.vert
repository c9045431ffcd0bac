#version 330
uniform mat4 model;
uniform mat4 camera;
in vec3 position;
in vec3 normal;
in vec2 uv;
out vec3 local;   // position in the thing's own frame: patterns stick to it
out vec3 place;   // position on the set
out vec3 facing;
out vec3 local_facing;
out vec2 coordinate;
void main() {
    local = position;
    local_facing = normal;
    place = (model * vec4(position, 1.0)).xyz;
    facing = mat3(model) * normal;
    coordinate = uv;
    gl_Position = camera * vec4(place, 1.0);
}
