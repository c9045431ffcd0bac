// A surface of a model's file in empty space. Follows rig.glsl. All colours are light until the last line: textures
// are sRGB for OpenGL, which takes their means as light too.
uniform vec3 eye;
uniform vec3 forward;
uniform vec4 base;
uniform bool textured;
uniform sampler2D image;
uniform bool tinted;
uniform vec3 glow;
uniform bool glow_textured;
uniform sampler2D glow_image;
uniform int alpha;  // 0 opaque, 1 mask, 2 blend
uniform float cutoff;
uniform bool lit;
in vec3 place;
in vec3 facing;
in vec2 coordinate;
in vec2 glow_coordinate;
in vec4 colour;
layout(location = 0) out vec4 out_colour;
layout(location = 1) out float out_depth;  // along the optical axis

void main() {
    vec4 own = base;
    if (textured) own *= texture(image, coordinate);
    if (tinted) own *= colour;
    if (alpha == 1 && own.a < cutoff) discard;
    if (alpha == 2 && seen_through(own.a)) discard;
    vec3 n = normalize(facing);
    if (dot(n, eye - place) < 0.0) n = -n;
    vec3 light = own.rgb * (lit ? light_on(n) : 1.0);
    light += glow * (glow_textured ? texture(glow_image, glow_coordinate).rgb : vec3(1.0));
    light = clamp(light, 0.0, 1.0);
    vec3 shown = mix(light * 12.92, 1.055 * pow(max(light, 0.0031308), vec3(1.0 / 2.4)) - 0.055, step(0.0031308, light));
    out_colour = vec4(shown, 1.0);
    out_depth = dot(place - eye, forward);
}
