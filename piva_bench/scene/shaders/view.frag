// A thing in empty space, seen from any side: soft lights that stand still in the world, no shadows, no floor.
// Follows surface.glsl and rig.glsl. World z is up; the mirror's surroundings are those of the studio, whose y is up.
uniform vec3 eye;
uniform vec3 forward;
uniform float opacity;
in vec3 place;
in vec3 facing;
layout(location = 0) out vec4 out_colour;
layout(location = 1) out float out_depth;  // along the optical axis

void main() {
    if (seen_through(opacity)) discard;
    vec3 n = normalize(facing);
    vec3 view = normalize(eye - place);
    if (dot(n, view) < 0.0) n = -n;
    vec3 c = surface() * light_on(n);
    if (material == 2) {
        vec3 r = reflect(-view, n);
        vec3 tint = painted ? mix(paint, vec3(1.0), 0.08) : vec3(0.82, 0.83, 0.86);
        c = tint * surroundings(vec3(r.x, r.z, -r.y)) * 1.05;
    }
    out_colour = vec4(clamp(c, 0.0, 1.0), 1.0);
    out_depth = dot(place - eye, forward);
}
