// A thing in empty space, seen from any side: soft lights that stand still in the world, no shadows, no floor.
// Follows surface.glsl. World z is up; the mirror's surroundings are those of the studio, whose y is up.
uniform vec4 lights[8];  // direction to the light, and its strength
uniform vec3 eye;
uniform vec3 forward;
uniform float opacity;
in vec3 place;
in vec3 facing;
layout(location = 0) out vec4 out_colour;
layout(location = 1) out float out_depth;  // along the optical axis

const float WRAP = 0.5;  // large area lights reach round the edge of a thing

// What one sees through covers a share of a pixel's nine samples, the middle one (whose depth counts) from a half
// on. All layers of it leave out the same samples, so that two panes are no darker than one.
const float order[9] = float[](0.0, 6.0, 2.0, 7.0, 4.0, 8.0, 3.0, 5.0, 1.0);

void main() {
    ivec2 place_in_pixel = ivec2(gl_FragCoord.xy) % 3;
    if (opacity < 1.0 && order[place_in_pixel.y * 3 + place_in_pixel.x] + 0.5 > opacity * 9.0) discard;
    vec3 n = normalize(facing);
    vec3 view = normalize(eye - place);
    if (dot(n, view) < 0.0) n = -n;
    float light = 0.0;
    for (int i = 0; i < 8; ++i) light += lights[i].w * max((dot(n, lights[i].xyz) + WRAP) / (1.0 + WRAP), 0.0);
    vec3 c = surface() * light;
    if (material == 2) {
        vec3 r = reflect(-view, n);
        vec3 tint = painted ? mix(paint, vec3(1.0), 0.08) : vec3(0.82, 0.83, 0.86);
        c = tint * surroundings(vec3(r.x, r.z, -r.y)) * 1.05;
    }
    out_colour = vec4(clamp(c, 0.0, 1.0), 1.0);
    out_depth = dot(place - eye, forward);
}
