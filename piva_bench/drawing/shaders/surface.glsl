// What a thing's surface looks like before light falls on it: own colours, paint, wood, marble, prints.
// Comes before the rest of every fragment shader that shows things.
const int material = MATERIAL;  // 0 plain, 1 wood, 2 metal, 3 marble
const int pattern = PATTERN;    // 0 none, 1 stripes, 2 dots, 3 checks
uniform bool painted;
uniform vec3 paint;
uniform vec3 colour;
uniform float luminance;
uniform bool textured;
uniform sampler2D image;
in vec3 local;
in vec3 local_facing;
in vec2 coordinate;

float hash(vec3 p) { return fract(sin(dot(p, vec3(12.9898, 78.233, 37.719))) * 43758.5453); }

float noise(vec3 p) {
    vec3 i = floor(p), f = fract(p);
    f = f * f * (3.0 - 2.0 * f);
    float a = mix(mix(hash(i), hash(i + vec3(1, 0, 0)), f.x), mix(hash(i + vec3(0, 1, 0)), hash(i + vec3(1, 1, 0)), f.x), f.y);
    float b = mix(mix(hash(i + vec3(0, 0, 1)), hash(i + vec3(1, 0, 1)), f.x), mix(hash(i + vec3(0, 1, 1)), hash(i + vec3(1, 1, 1)), f.x), f.y);
    return mix(a, b, f.z);
}

float luma(vec3 c) { return dot(c, vec3(0.2126, 0.7152, 0.0722)); }

// What a mirror at p sees: a bright softbox above, a dark band at the horizon, a warm floor.
vec3 surroundings(vec3 r) {
    float up = r.y;
    vec3 c = mix(vec3(0.10, 0.10, 0.12), vec3(0.95), smoothstep(0.05, 0.65, up));
    c = mix(c, vec3(0.45, 0.42, 0.40), smoothstep(-0.05, -0.5, up));
    return c + vec3(0.5) * smoothstep(0.86, 0.97, dot(r, normalize(vec3(-0.5, 0.7, 0.5))));
}

vec3 surface() {
    vec3 own = textured ? texture(image, coordinate).rgb : colour;
    vec3 c = own;
    if (painted) {
        float detail = clamp(luma(own) / luminance, 0.55, 1.35);
        c = paint * mix(1.0, detail, 0.45);
    }
    if (material == 1) {
        vec3 base = painted ? paint : vec3(0.62, 0.38, 0.18);
        float rings = length(local.xz * vec2(1.0, 0.7)) * 16.0 + 2.5 * noise(local * vec3(3.0, 1.5, 3.0));
        float grain = 0.5 + 0.5 * sin(rings * 2.2 + local.y * 2.0);
        c = base * mix(0.42, 1.12, grain) + vec3(0.05, 0.03, 0.0);
    } else if (material == 3) {
        vec3 base = painted ? paint : vec3(0.90, 0.89, 0.87);
        float n = noise(local * 4.0) + 0.5 * noise(local * 9.0);
        float vein = abs(sin(local.x * 5.0 + local.y * 7.0 + n * 6.0));
        vec3 line = luma(base) > 0.45 ? vec3(0.20, 0.20, 0.23) : vec3(0.93);
        c = mix(line, base, smoothstep(0.02, 0.45, vein));
    }
    if (pattern > 0) {
        vec3 ink = luma(painted ? paint : vec3(luminance)) > 0.5 ? vec3(0.10, 0.10, 0.35) : vec3(0.97);
        bool inside = false;
        if (pattern == 1) inside = fract(local.y * 5.0) < 0.45;
        else if (pattern == 2) {
            vec3 w = abs(local_facing);
            vec2 q = w.y > w.x && w.y > w.z ? local.xz : w.x > w.z ? local.zy : local.xy;
            inside = length(fract(q * 5.5) - 0.5) < 0.30;
        } else {
            vec3 q = floor(local * 6.0 + 0.01);
            inside = mod(q.x + q.y + q.z, 2.0) < 0.5;
        }
        if (inside) c = ink;
    }
    return c;
}

