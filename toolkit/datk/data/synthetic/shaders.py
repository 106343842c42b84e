"""The one GLSL program family of the moderngl renderer. Lighting is the same model as shading.py."""

from __future__ import annotations

CORNER_ROW = 1024
"""Triangles a row of the texture that holds their corners."""

_VERTEX_COMMON = """
#version 330
in vec3 in_position;
in vec3 in_normal;
in vec2 in_uv;
in float in_material;
uniform vec2 focal;      // (2 f / W, 2 f / H), f in pixels
uniform mat4 place;      // identity, or the reflection about a mirror
out vec3 position;
out vec3 normal;
out vec2 uv;
flat out int material;
void main() {
    vec4 p = place * vec4(in_position, 1.0);
    position = p.xyz;
    normal = mat3(place) * in_normal;
    uv = in_uv;
    material = int(in_material + 0.5);
    // y is not flipped: row 0 of what is read back is the top of the picture
    gl_Position = vec4(focal * p.xy, p.z - 2.0 * NEAR, p.z);
}
"""

SHADOW_VERTEX = """
#version 330
in vec3 in_position;
uniform mat4 light;
void main() { gl_Position = light * vec4(in_position, 1.0); }
"""

SHADOW_FRAGMENT = """
#version 330
void main() {}
"""

DEPTH_VERTEX = """
#version 330
in vec3 in_position;
in float in_surface;
uniform vec2 focal;
flat out float surface;
void main() {
    surface = in_surface;
    gl_Position = vec4(focal * in_position.xy, in_position.z - 2.0 * NEAR, in_position.z);
}
"""

DEPTH_FRAGMENT = """
#version 400
// Depth along the axis from the triangle's own plane, in double precision: interpolated attributes lose five digits
// where the ground is met at a grazing angle.
uniform sampler2D corners;  // CORNER_ROW texels a row, three a triangle
uniform dvec2 ray_scale;   // 1 / f, f in pixels
uniform dvec2 ray_centre;  // (W / 2, H / 2)
flat in float surface;
out vec2 depth_surface;
void main() {
    ivec2 base = ivec2(3 * (gl_PrimitiveID % CORNER_ROW), gl_PrimitiveID / CORNER_ROW);
    dvec3 a = dvec3(texelFetch(corners, base, 0).xyz);
    dvec3 b = dvec3(texelFetch(corners, base + ivec2(1, 0), 0).xyz);
    dvec3 c = dvec3(texelFetch(corners, base + ivec2(2, 0), 0).xyz);
    dvec3 n = cross(b - a, c - a);
    dvec3 ray = dvec3((dvec2(gl_FragCoord.xy) - ray_centre) * ray_scale, 1.0);
    double z = dot(n, a) / dot(n, ray);
    // a sliver's plane may run away within the pixel: stay between its corners
    z = clamp(z, min(a.z, min(b.z, c.z)), max(a.z, max(b.z, c.z)));
    depth_surface = vec2(float(z), surface);
    // a fourth root keeps 24 bits fine at 5 cm and at 200 m alike (relative step below 2e-6)
    gl_FragDepth = 1.0 - sqrt(sqrt(float(NEAR / z)));
}
"""

_SKY = """
uniform mat3 to_world;     // camera to world
uniform vec3 zenith, horizon, ground_colour, sun_colour;
uniform vec3 sun_direction;  // towards the sun, world
uniform float cloud_amount;
uniform int cloud_layer;
uniform sampler2DArray bank;
vec3 environment(vec3 w) {
    float up = w.z;
    vec3 sky = mix(horizon, zenith, sqrt(max(up, 0.0)));
    vec2 at = w.xy / (0.12 + abs(up)) * 0.21;
    float c = textureLod(bank, vec3(at, float(cloud_layer)), 0.0).r;
    vec3 cloud = 0.25 * horizon + 0.75 * vec3(dot(horizon, vec3(0.333)) * 1.25);
    sky = mix(sky, cloud, cloud_amount * smoothstep(0.4, 0.8, c) * smoothstep(0.0, 0.15, up));
    float towards = max(dot(w, sun_direction), 0.0);
    sky += sun_colour * (4.0 * pow(towards, 600.0) + 0.1 * pow(towards, 12.0));
    return mix(ground_colour * (0.8 + 0.4 * c), sky, smoothstep(-0.02, 0.02, up));
}
"""

SKY_VERTEX = """
#version 330
uniform vec2 focal;
out vec3 ray;
void main() {
    vec2 corner = vec2(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0);
    ray = vec3(corner / focal, 1.0);
    gl_Position = vec4(corner, 1.0, 1.0);
}
"""

SKY_FRAGMENT = (
    "#version 330\nin vec3 ray;\nuniform mat3 mirror_turn;\nout vec4 colour;\n"
    + _SKY
    + "void main() { colour = vec4(environment(normalize(to_world * (mirror_turn * ray))), 1.0); }\n"
)

_LIGHTING = (
    "#version 330\n"
    + _SKY
    + """
in vec3 position;
in vec3 normal;
in vec2 uv;
flat in int material;
out vec4 colour;
uniform sampler2D looks;          // 4 texels a material
uniform vec3 light_position[2];   // camera space; unused for a sun
uniform vec3 light_direction[2];  // where the light travels, camera space
uniform vec3 light_colour[2];
uniform vec3 light_shape[2];      // (is spot, cos of the cone, reach in m)
uniform mat4 light_matrix[2];     // camera space to shadow map
uniform sampler2DShadow shadow_map0;
uniform sampler2DShadow shadow_map1;
uniform float ambient;
uniform vec3 fog_colour;
uniform float fog_per_m;
uniform vec4 cut;                 // plane of a mirror: only what is in front of it is drawn into its picture

float shadow(int which, vec3 p) {
    vec4 c = light_matrix[which] * vec4(p, 1.0);
    vec3 s = c.xyz / c.w * 0.5 + 0.5;
    if (c.w <= 0.0 || any(lessThan(s, vec3(0.0))) || any(greaterThan(s, vec3(1.0)))) return 1.0;
    return which == 0 ? texture(shadow_map0, s) : texture(shadow_map1, s);
}

vec3 lit(vec3 base, vec3 n, vec3 view, float specular, float gloss) {
    vec3 up = vec3(to_world[0].z, to_world[1].z, to_world[2].z);
    vec3 total = base * ambient * mix(ground_colour, 0.5 * (zenith + horizon), 0.5 + 0.5 * dot(n, up));
    for (int i = 0; i < 2; i++) {
        vec3 to_light = -light_direction[i];
        float strength = 1.0;
        if (light_shape[i].x > 0.5) {
            vec3 gap = light_position[i] - position;
            float far = length(gap);
            to_light = gap / far;
            float c = dot(to_light, -light_direction[i]);
            strength = smoothstep(light_shape[i].y - 0.25, light_shape[i].y + 0.15, c);
            strength /= 1.0 + pow(far / light_shape[i].z, 2.0);
        }
        float facing = dot(n, to_light);
        if (facing <= 0.0 || strength <= 0.0) continue;
        strength *= shadow(i, position + n * (0.004 + 0.004 * length(position)));
        vec3 half_way = normalize(to_light + view);
        float shine = specular * pow(max(dot(n, half_way), 0.0), gloss) * (gloss + 8.0) / 40.0;
        total += strength * light_colour[i] * facing * (base + vec3(shine));
    }
    return total;
}
"""
)

OPAQUE_FRAGMENT = (
    _LIGHTING
    + """
void main() {
    if (dot(cut.xyz, position) < cut.w) discard;
    vec4 a = texelFetch(looks, ivec2(0, material), 0);  // colour_a, specular
    vec4 b = texelFetch(looks, ivec2(1, material), 0);  // colour_b, gloss
    vec4 c = texelFetch(looks, ivec2(2, material), 0);  // layer, own colours, relief, emission
    vec4 t = texture(bank, vec3(uv, c.x));
    float slope = t.a - texture(bank, vec3(uv + vec2(0.011, 0.007), c.x)).a;
    vec3 base = c.y > 0.5 ? t.rgb * a.rgb : mix(a.rgb, b.rgb, t.r);
    base *= clamp(1.0 + 1.6 * c.z * slope, 0.3, 1.8);
    vec3 view = -normalize(position);
    vec3 n = normalize(normal);
    if (dot(n, view) < 0.0) n = -n;
    vec3 total = lit(base, n, view, a.w, b.w);
    float fresnel = a.w * (0.03 + 0.6 * pow(1.0 - max(dot(n, view), 0.0), 4.0)) * clamp(b.w / 80.0, 0.0, 1.0);
    total += fresnel * ambient * environment(to_world * reflect(-view, n));
    total += c.w * a.rgb;
    colour = vec4(mix(fog_colour, total, exp(-fog_per_m * length(position))), 1.0);
}
"""
)

SPECIAL_FRAGMENT = (
    _LIGHTING
    + """
uniform sampler2D behind;       // the opaque picture
uniform sampler2D reflection;   // the picture in the plane mirror
uniform vec4 mirror_plane;      // its plane; zero without one
uniform float env_gain;
void main() {
    vec4 a = texelFetch(looks, ivec2(0, material), 0);
    vec4 b = texelFetch(looks, ivec2(1, material), 0);
    vec4 c = texelFetch(looks, ivec2(2, material), 0);
    float is_mirror = texelFetch(looks, ivec2(3, material), 0).x;
    vec2 at = gl_FragCoord.xy / vec2(textureSize(behind, 0));
    vec3 view = -normalize(position);
    vec3 n = normalize(normal);
    if (dot(n, view) < 0.0) n = -n;
    vec3 sheen = lit(vec3(0.0), n, view, a.w, b.w);
    vec3 mirrored = env_gain * environment(to_world * reflect(-view, n));
    vec3 total;
    if (is_mirror > 0.5) {
        bool plane = abs(dot(n, mirror_plane.xyz)) > 0.9999;
        plane = plane && abs(dot(position, mirror_plane.xyz) - mirror_plane.w) < 0.02;
        vec3 seen = plane ? texture(reflection, at).rgb : 0.6 * mirrored + 0.4 * texture(behind, at + 0.12 * n.xy).rgb;
        total = seen * a.rgb + sheen;
    } else {
        float h = texture(bank, vec3(uv, c.x)).a - 0.5;
        float fresnel = 0.04 + 0.75 * pow(1.0 - abs(dot(n, view)), 4.0);
        vec3 through = texture(behind, at + n.xy * 0.02 + vec2(h, -h) * 0.02 * c.z).rgb * a.rgb;
        total = through * (1.0 - fresnel) + fresnel * mirrored + sheen + 0.02 * texture(bank, vec3(uv, c.x)).r;
    }
    colour = vec4(mix(fog_colour, total, exp(-fog_per_m * length(position))), 1.0);
}
"""
)


def with_near(source: str, near_m: float) -> str:
    """The source with the near distance written in after its #version line."""
    head, _, rest = source.lstrip().partition("\n")
    return f"{head}\n#define NEAR {near_m!r}\n#define CORNER_ROW {CORNER_ROW}\n{rest}"


SURFACE_VERTEX = _VERTEX_COMMON
