// The rig's soft lights, which stand still in the world: how much of them falls on a surface that faces n.
uniform vec4 lights[8];  // direction to the light, and its strength
const float WRAP = 0.5;  // large area lights reach round the edge of a thing

float light_on(vec3 n) {
    float light = 0.0;
    for (int i = 0; i < 8; ++i) light += lights[i].w * max((dot(n, lights[i].xyz) + WRAP) / (1.0 + WRAP), 0.0);
    return light;
}

// What one sees through covers a share of a pixel's nine samples, the middle one (whose depth counts) from a half
// on. All layers of it leave out the same samples, so that two panes are no darker than one.
const float order[9] = float[](0.0, 6.0, 2.0, 7.0, 4.0, 8.0, 3.0, 5.0, 1.0);

bool seen_through(float opacity) {
    ivec2 place_in_pixel = ivec2(gl_FragCoord.xy) % 3;
    return opacity < 1.0 && order[place_in_pixel.y * 3 + place_in_pixel.x] + 0.5 > opacity * 9.0;
}
