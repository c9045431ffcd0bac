// One shader for the whole set: surface colour (own, painted, wood, metal, marble, prints), floor, backdrop,
// key light with a soft shadow, sky light with contact shadow. Colours are display colours.
// The renderer compiles one variant for each kind of surface it meets by defining these five numbers:
// a software rasteriser pays for every branch of a shader, taken or not.
const int id = ID;              // 0 backdrop, 1 floor, 2 object, 3 accessory, 4 second object
const int floor_kind = FLOOR;   // 0 wood, 1 grass, 2 sand, 3 tiles
const int backdrop = BACKDROP;  // 0 grey, 1 brick, 2 sky, 3 sunset, 4 night
uniform float phase;
uniform sampler2DShadow key_shadow;
uniform sampler2DShadow sky_shadow;
uniform mat4 key_light;
uniform mat4 sky_light;
uniform vec3 key_direction;
uniform vec3 eye;
in vec3 place;
in vec3 facing;
layout(location = 0) out vec4 out_colour;
layout(location = 1) out vec4 out_buffers;  // distance to the eye, id, normal x, normal y

float lit(sampler2DShadow map, mat4 light, vec3 p, float radius, int half_width) {
    vec4 q = light * vec4(p, 1.0);
    vec3 s = q.xyz / q.w * 0.5 + 0.5;
    if (s.x < 0.0 || s.x > 1.0 || s.y < 0.0 || s.y > 1.0 || s.z > 1.0) return 1.0;
    float sum = 0.0, count = 0.0;
    for (int i = -half_width; i <= half_width; ++i)
        for (int j = -half_width; j <= half_width; ++j) {
            sum += texture(map, vec3(s.xy + vec2(i, j) * radius / float(half_width), s.z - 0.004));
            count += 1.0;
        }
    return sum / count;
}

vec3 ground() {
    vec2 p = place.xz + phase * vec2(1.7, 2.3);
    if (floor_kind == 0) {
        float plank = floor(p.x * 3.0);
        float shade = 0.82 + 0.25 * hash(vec3(plank, floor(p.y * 0.6 + hash(vec3(plank))), 1.0));
        float seam = smoothstep(0.0, 0.06, min(fract(p.x * 3.0), 1.0 - fract(p.x * 3.0)));
        return vec3(0.60, 0.40, 0.23) * shade * mix(0.45, 1.0, seam);
    }
    if (floor_kind == 1) {
        float blades = noise(vec3(p * 26.0, 0.0)) * 0.6 + noise(vec3(p * 9.0, 3.0)) * 0.4;
        return mix(vec3(0.10, 0.33, 0.07), vec3(0.38, 0.62, 0.16), blades);
    }
    if (floor_kind == 2) {
        float ripple = 0.5 + 0.5 * sin(p.y * 16.0 + 2.5 * noise(vec3(p * 2.0, 1.0)));
        return mix(vec3(0.80, 0.66, 0.44), vec3(0.93, 0.82, 0.60), 0.6 * ripple + 0.4 * noise(vec3(p * 22.0, 5.0)));
    }
    vec2 q = floor(p * 2.2);
    return mod(q.x + q.y, 2.0) < 0.5 ? vec3(0.12, 0.12, 0.14) : vec3(0.88, 0.87, 0.84);
}

// The backdrop is a wall; u runs along it, v from its foot upwards.
vec4 wall() {
    float u = place.x + phase * 3.1, v = place.y;
    if (backdrop == 0) return vec4(vec3(0.60, 0.61, 0.63), 1.0);
    if (backdrop == 1) {
        float row = floor(v * 4.2);
        float x = u * 2.1 + 0.5 * mod(row, 2.0);
        float joint = min(smoothstep(0.0, 0.10, fract(x)), smoothstep(0.0, 0.16, fract(v * 4.2)));
        vec3 brick = vec3(0.58, 0.23, 0.16) * (0.8 + 0.4 * hash(vec3(floor(x), row, 2.0)));
        return vec4(mix(vec3(0.74, 0.70, 0.65), brick, joint), 1.0);
    }
    float h = clamp(v / 2.4, 0.0, 1.0);
    if (backdrop == 2) {
        float cloud = smoothstep(0.52, 0.78, noise(vec3(u * 1.3, v * 2.6, 4.0)) * 0.7 + noise(vec3(u * 3.0, v * 5.0, 7.0)) * 0.3);
        return vec4(mix(mix(vec3(0.66, 0.84, 0.97), vec3(0.26, 0.55, 0.92), h), vec3(0.98), cloud * 0.85), 0.0);
    }
    if (backdrop == 3) {
        vec3 c = mix(vec3(1.0, 0.72, 0.25), vec3(0.93, 0.36, 0.25), smoothstep(0.0, 0.35, h));
        return vec4(mix(c, vec3(0.42, 0.18, 0.45), smoothstep(0.35, 0.9, h)), 0.0);
    }
    vec2 cell = vec2(u, v) * 2.6;
    vec2 star = floor(cell);
    vec2 at = vec2(hash(vec3(star, 1.0)), hash(vec3(star, 2.0))) * 0.6 + 0.2;
    float glow = smoothstep(0.15, 0.06, length(fract(cell) - at)) * step(0.45, hash(vec3(star, 3.0)));
    return vec4(mix(vec3(0.07, 0.08, 0.22), vec3(0.02, 0.02, 0.08), h) + glow, 0.0);
}

void main() {
    vec3 n = normalize(facing);
    vec3 view = normalize(eye - place);
    if (dot(n, view) < 0.0) n = -n;  // thin sheets are lit from both sides
    vec3 c;
    if (id == 0) {
        vec4 w = wall();
        float foot = 0.72 + 0.28 * smoothstep(0.0, 0.5, place.y);
        c = w.rgb * mix(1.0, foot, w.a);
    } else {
        float key = max(dot(n, key_direction), 0.0) * lit(key_shadow, key_light, place + n * 0.01, 0.005, 1);
        float sky = id == 1 ? mix(0.35, 1.0, lit(sky_shadow, sky_light, place, 0.045, 2)) : 0.75 + 0.25 * n.y;
        vec3 albedo = id == 1 ? ground() : surface();
        float shine = 0.0;
        if (id != 1) {
            vec3 half_way = normalize(key_direction + view);
            shine = pow(max(dot(n, half_way), 0.0), material == 3 ? 60.0 : 24.0) * (material == 1 ? 0.05 : material == 3 ? 0.45 : 0.14);
        }
        if (id == 2 && material == 2) {
            vec3 tint = painted ? mix(paint, vec3(1.0), 0.08) : vec3(0.82, 0.83, 0.86);
            vec3 r = reflect(-view, n);
            c = tint * surroundings(r) * 1.05 + vec3(0.8) * pow(max(dot(r, key_direction), 0.0), 30.0);
        } else {
            c = albedo * (0.52 * sky + 0.62 * key) + vec3(shine);
        }
    }
    out_colour = vec4(clamp(c, 0.0, 1.0), 1.0);
    out_buffers = vec4(length(eye - place), float(id), n.x, n.y);
}
