"""Rasteriser on an off-screen EGL context: colour 2x supersampled, depth point-sampled at pixel centres."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.data.synthetic import shaders
from datk.data.synthetic.film import develop
from datk.data.synthetic.looks import LightInCamera, env_gain, light_in_camera, material_rows, sun_of
from datk.data.synthetic.renderer import PIP_LINE, Rendered
from datk.data.synthetic.scene import NEAR_M, Scene, Size
from datk.data.synthetic.textures import texture_bank
from datk.errors import EnvironmentLacks

SUPERSAMPLE = 2
SHADOW_EDGE = 512
_MAX_MATERIALS = 1024


class GLRenderer:
    """Draws with OpenGL >= 4.0 through moderngl and EGL (no window, no display).

    Raises EnvironmentLacks when moderngl is missing or no context can be made.
    """

    name = "moderngl"

    def __init__(self) -> None:
        try:
            import moderngl as gl
        except ImportError as error:
            raise EnvironmentLacks("renderer moderngl: the package is not installed", hint=PIP_LINE) from error
        moderngl: Any = gl
        try:
            self._ctx: Any = moderngl.create_context(standalone=True, backend="egl", require=400)
        except Exception as error:
            raise EnvironmentLacks(f"renderer moderngl: no EGL context ({error})", hint=PIP_LINE) from error
        self._gl: Any = moderngl
        self.detail = f"moderngl {moderngl.__version__}, {self._ctx.info['GL_RENDERER']}"
        program = self._program
        self._shadow = program(shaders.SHADOW_VERTEX, shaders.SHADOW_FRAGMENT)
        self._depth = program(shaders.DEPTH_VERTEX.replace("330", "400"), shaders.DEPTH_FRAGMENT)
        self._sky = program(shaders.SKY_VERTEX, shaders.SKY_FRAGMENT)
        self._opaque = program(shaders.SURFACE_VERTEX, shaders.OPAQUE_FRAGMENT)
        self._special = program(shaders.SURFACE_VERTEX, shaders.SPECIAL_FRAGMENT)
        bank = texture_bank()
        self._bank = self._ctx.texture_array((bank.shape[2], bank.shape[1], bank.shape[0]), 4, bank.tobytes())
        self._bank.build_mipmaps()
        self._bank.filter = (moderngl.LINEAR_MIPMAP_LINEAR, moderngl.LINEAR)
        self._shadow_maps = [self._ctx.depth_texture((SHADOW_EDGE, SHADOW_EDGE)) for _ in range(2)]
        for texture in self._shadow_maps:
            texture.compare_func = "<="
            texture.filter = (moderngl.LINEAR, moderngl.LINEAR)
            texture.repeat_x = texture.repeat_y = False
        self._shadow_targets = [self._ctx.framebuffer(depth_attachment=t) for t in self._shadow_maps]
        self._looks = self._ctx.texture((4, _MAX_MATERIALS), 4, dtype="f4")
        self._looks.filter = (moderngl.NEAREST, moderngl.NEAREST)
        self._sky_array = self._ctx.vertex_array(self._sky, [])
        self._targets: dict[Size, _Targets] = {}

    def _program(self, vertex: str, fragment: str) -> Any:
        near = shaders.with_near
        return self._ctx.program(vertex_shader=near(vertex, NEAR_M), fragment_shader=near(fragment, NEAR_M))

    def close(self) -> None:
        """Release the context and all it holds."""
        self._ctx.release()

    def render(self, scene: Scene, size: Size) -> Rendered:
        """See Renderer.render."""
        geometry = scene.geometry
        count, opaque = 3 * len(geometry.triangles), 3 * geometry.opaque_count
        targets = self._targets.get(size)
        if targets is None:
            targets = self._targets[size] = _Targets(self._ctx, self._gl, size)
        vertices = np.empty((count, 10), dtype=np.float32)
        vertices[:, 0:3] = geometry.triangles.reshape(-1, 3)
        vertices[:, 3:6] = geometry.normals.reshape(-1, 3)
        vertices[:, 6:8] = geometry.uv.reshape(-1, 2)
        vertices[:, 8] = np.repeat(geometry.material, 3)
        vertices[:, 9] = np.repeat(geometry.surface, 3)
        rows = material_rows(geometry.materials)
        if len(rows) > _MAX_MATERIALS:
            raise ValueError(f"a scene may have at most {_MAX_MATERIALS} materials, this one has {len(rows)}")
        self._looks.write(rows.tobytes(), viewport=(0, 0, 4, len(rows)))
        buffer = self._ctx.buffer(vertices.tobytes())
        held: list[Any] = [buffer]
        try:
            self._draw_shadows(scene, buffer, opaque, held)
            depth, surface = self._draw_depth(scene, size, targets, buffer, count, held)
            radiance = self._draw_colour(scene, size, targets, buffer, opaque, count, held)
        finally:
            for thing in reversed(held):
                thing.release()
        image = develop(radiance, scene.film)
        return Rendered(image, depth, surface == 1, surface == 2)

    def _draw_shadows(self, scene: Scene, buffer: Any, opaque: int, held: list[Any]) -> None:
        ctx, gl = self._ctx, self._gl
        array = ctx.vertex_array(self._shadow, [(buffer, "3f 7x4", "in_position")])
        held.append(array)
        ctx.enable_only(gl.DEPTH_TEST)
        ctx.depth_func = "<"
        ctx.polygon_offset = (1.5, 2.0)
        for light, target in zip(_lights(scene), self._shadow_targets, strict=True):
            target.use()
            target.clear(depth=1.0)
            self._shadow["light"].write(light.projection.T.astype("f4").tobytes())
            array.render(vertices=opaque)
        ctx.polygon_offset = (0.0, 0.0)

    def _draw_depth(
        self, scene: Scene, size: Size, targets: _Targets, buffer: Any, count: int, held: list[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        height, width = size
        ctx, gl, program = self._ctx, self._gl, self._depth
        pixel = scene.camera.focal * height
        program["focal"] = (2 * pixel / width, 2 * pixel / height)
        program["ray_scale"].write(np.array([1 / pixel, 1 / pixel]).tobytes())
        program["ray_centre"].write(np.array([width / 2, height / 2]).tobytes())
        self._corner_texture(scene.geometry.triangles, held).use(0)
        program["corners"] = 0
        array = ctx.vertex_array(program, [(buffer, "3f 6x4 1f", "in_position", "in_surface")])
        held.append(array)
        targets.depth.use()
        ctx.enable_only(gl.DEPTH_TEST)
        ctx.depth_func = "<"
        targets.depth.clear(np.inf, 0.0, 0.0, 0.0, depth=1.0)
        array.render(vertices=count)
        both = np.frombuffer(targets.depth.read(components=2, dtype="f4"), dtype=np.float32).reshape(height, width, 2)
        depth, surface = both[..., 0].copy(), both[..., 1]
        return depth, np.where(np.isfinite(depth), surface, 0).astype(np.uint8)

    def _corner_texture(self, triangles: NDArray[np.float32], held: list[Any]) -> Any:
        rows = -(-len(triangles) // shaders.CORNER_ROW)
        corners = np.zeros((rows * shaders.CORNER_ROW, 3, 4), dtype=np.float32)
        corners[: len(triangles), :, :3] = triangles
        texture = self._ctx.texture((3 * shaders.CORNER_ROW, rows), 4, corners.tobytes(), dtype="f4")
        texture.filter = (self._gl.NEAREST, self._gl.NEAREST)
        held.append(texture)
        return texture

    def _draw_colour(
        self, scene: Scene, size: Size, targets: _Targets, buffer: Any, opaque: int, count: int, held: list[Any]
    ) -> NDArray[np.float32]:
        ctx, gl = self._ctx, self._gl
        names = ("in_position", "in_normal", "in_uv", "in_material")
        solid = ctx.vertex_array(self._opaque, [(buffer, "3f 3f 2f 1f 1x4", *names)])
        clear = ctx.vertex_array(self._special, [(buffer, "3f 3f 2f 1f 1x4", *names)])
        held += [solid, clear]
        for program in (self._sky, self._opaque, self._special):
            self._set_uniforms(program, scene, size)
        self._bank.use(0)
        self._looks.use(1)
        for unit, texture in enumerate(self._shadow_maps):
            texture.use(2 + unit)
        identity = np.eye(4)
        mirror = scene.geometry.mirror_plane
        if mirror is not None:
            normal = mirror[:3]
            reflect = np.eye(4)
            reflect[:3, :3] -= 2 * np.outer(normal, normal)
            reflect[:3, 3] = 2 * mirror[3] * normal
            # seen through the mirror: the mirrored world, kept where it lies behind the plane as the eye sees it
            side = -1.0 if mirror[3] > 0 else 1.0
            cut = np.append(-side * normal, -side * mirror[3] + 1e-3)
            self._draw_opaque(scene, targets.reflected, solid, opaque, reflect, cut)
        self._draw_opaque(scene, targets.colour, solid, opaque, identity, np.array([0.0, 0.0, 0.0, -1.0]))
        if count > opaque:
            ctx.copy_framebuffer(targets.behind, targets.colour)
            targets.behind_texture.use(4)
            targets.reflected_texture.use(5)
            targets.colour.use()
            ctx.enable_only(gl.DEPTH_TEST)
            ctx.depth_func = "<="
            self._special["mirror_plane"] = tuple(np.zeros(4) if mirror is None else mirror)
            self._special["place"].write(identity.astype("f4").tobytes())
            clear.render(vertices=count - opaque, first=opaque)
        height, width = size
        raw = np.frombuffer(targets.colour.read(components=4, dtype="f2"), dtype=np.float16)
        fine = raw.reshape(height, SUPERSAMPLE, width, SUPERSAMPLE, 4)[..., :3].astype(np.float32)
        # bright glints are tamed before averaging, as a sensor's lens would spread them
        result: NDArray[np.float32] = np.minimum(fine, 12.0).mean(axis=(1, 3))
        return result

    def _draw_opaque(
        self, scene: Scene, target: Any, array: Any, opaque: int, place: NDArray[np.float64], cut: NDArray[np.float64]
    ) -> None:
        ctx, gl = self._ctx, self._gl
        target.use()
        target.clear(0.0, 0.0, 0.0, 1.0, depth=1.0)
        ctx.enable_only(gl.NOTHING)
        self._sky["mirror_turn"].write(place[:3, :3].T.astype("f4").tobytes())
        self._sky_array.render(vertices=3)
        ctx.enable_only(gl.DEPTH_TEST)
        ctx.depth_func = "<"
        self._opaque["place"].write(place.T.astype("f4").tobytes())
        self._opaque["cut"] = tuple(cut)
        array.render(vertices=opaque)

    def _set_uniforms(self, program: Any, scene: Scene, size: Size) -> None:
        height, width = size
        pixel = scene.camera.focal * height
        environment = scene.environment
        sun_direction, sun_colour = sun_of(scene)
        lights = _lights(scene)
        values: dict[str, Any] = {
            "focal": (2 * pixel / width, 2 * pixel / height),
            "zenith": environment.zenith,
            "horizon": environment.horizon,
            "ground_colour": environment.ground,
            "sun_direction": tuple(sun_direction),
            "sun_colour": tuple(sun_colour),
            "cloud_amount": environment.cloud_amount,
            "cloud_layer": environment.cloud_layer,
            "bank": 0,
            "looks": 1,
            "shadow_map0": 2,
            "shadow_map1": 3,
            "behind": 4,
            "reflection": 5,
            "light_position": [tuple(light.position) for light in lights],
            "light_direction": [tuple(light.direction) for light in lights],
            "light_colour": [tuple(light.colour) for light in lights],
            "light_shape": [(float(light.is_spot), light.cos_cone, light.reach_m) for light in lights],
            "ambient": environment.ambient,
            "fog_colour": environment.fog_colour,
            "fog_per_m": environment.fog_per_m,
            "env_gain": env_gain(environment),
        }
        for name, value in values.items():
            if name in program:
                program[name] = value
        # the rows of rotation are camera axes in world terms, so its bytes are the columns GLSL expects
        program["to_world"].write(scene.camera.rotation.astype("f4").tobytes())
        if "light_matrix" in program:
            program["light_matrix"].write(np.stack([light.projection.T for light in lights]).astype("f4").tobytes())


class _Targets:
    """Off-screen pictures of one size."""

    def __init__(self, ctx: Any, gl: Any, size: Size) -> None:
        height, width = size
        fine = (width * SUPERSAMPLE, height * SUPERSAMPLE)
        self.depth = ctx.framebuffer([ctx.texture((width, height), 2, dtype="f4")], ctx.depth_texture((width, height)))
        self.colour = ctx.framebuffer([ctx.texture(fine, 4, dtype="f2")], ctx.depth_renderbuffer(fine))
        self.behind_texture = ctx.texture(fine, 4, dtype="f2")
        self.behind = ctx.framebuffer([self.behind_texture])
        self.reflected_texture = ctx.texture(fine, 4, dtype="f2")
        self.reflected = ctx.framebuffer([self.reflected_texture], ctx.depth_renderbuffer(fine))
        for texture in (self.behind_texture, self.reflected_texture):
            texture.filter = (gl.LINEAR, gl.LINEAR)
            texture.repeat_x = texture.repeat_y = False


def _lights(scene: Scene) -> list[LightInCamera]:
    return [light_in_camera(light, scene.camera) for light in scene.lights]
