"""Every reference vector that a profile or quantity of this layer touches, at its own tolerance."""

import math
from importlib import import_module

import numpy as np
import pytest

from pipeline.core.seeding import image_rng
from pipeline.physics import cosmology, detector, light, subhalos
from pipeline.physics.compensation import macro_einstein_radius, mean_deflection
from pipeline.physics.components import Perturbers
from pipeline.physics.cosmology import FlatLCDM
from pipeline.physics.host import Host
from pipeline.physics.profiles.halos import nfw_mass, tnfw_mass, tnfw_total_mass
from pipeline.physics.profiles.table import PROFILES
from pipeline.physics.substructure import base, fdm, vortex, wdm

from .vectors import FILE, assert_meets, entries, kinds, positions

#: Tested with the engines.
ELSEWHERE = {"image"}
#: Quantities of parts that do not exist yet.
TO_COME = {"d_prime", "ceilings"}
HERE = {
    "distances_mpc",
    "sigma_crit",
    "theta_e_sis",
    "theta_e_point",
    "source_plane_scaling",
    "sie",
    "sie_kappa",
    "epl",
    "shear",
    "point",
    "multipole",
    "multipole_ell",
    "tnfw",
    "nfw",
    "dpie",
    "tnfw_mass2d",
    "nfw_mass2d",
    "tnfw_total",
    "rod",
    "vortex_points",
    "vortex_half_length",
    "de_broglie_kpc",
    "sersic",
    "noise",
    "power_law_icdf",
    "concentration_dm14",
    "shmf",
    "compensation",
    "legacy_noise",
    "rng",
    "wdm",
    "fdm",
    "granules",
}
#: float32 tolerance on deflections in units of theta_E (PHYSICS 11).
FLOAT32 = 2e-6


def _params(entry):
    """Profile name and our parameters for an entry's."""
    p = entry["params"]
    center = {"center_x": p.get("x0", 0.0), "center_y": p.get("y0", 0.0)}
    kind = entry["kind"].removesuffix("_kappa")
    if "sigma_cr" in p:
        mass = p["m0"] if "m0" in p else p["mass"]
        center["theta_E"] = math.sqrt(mass / (math.pi * p["sigma_cr"]))
    table = {
        "sie": ("sie", {"theta_E": "theta_e", "q": "q", "phi": "phi"}),
        "epl": ("epl", {"theta_E": "theta_e", "slope": "gamma", "q": "q", "phi": "phi"}),
        "shear": ("shear", {"gamma1": "gamma1", "gamma2": "gamma2"}),
        "point": ("point_mass", {"theta_E": "theta_e"}),
        "multipole": ("multipole", {"m": "m", "a_m": "a_m", "phi_m": "phi_m"}),
        "multipole_ell": (
            "elliptical_multipole",
            {"m": "m", "a_m": "a_m", "phi_m": "phi_m", "q": "q", "theta_E": "r_e"},
        ),
        "tnfw": ("tnfw", {"scale_radius": "rs", "tau": "tau"}),
        "nfw": ("nfw", {"scale_radius": "rs"}),
        "dpie": ("dual_isothermal", {"core": "rc", "truncation": "rt"}),
        "rod": (
            "rod",
            {"theta_E": "theta_e", "half_length": "half_len", "phi": "phi", "core": "s"},
        ),
    }
    name, names = table[kind]
    params = {ours: p[theirs] for ours, theirs in names.items()}
    if kind == "multipole_ell":
        params["phi"] = 0.0
    return PROFILES[name], {**params, **center}


DEFLECTIONS = (
    "sie",
    "epl",
    "shear",
    "point",
    "multipole",
    "multipole_ell",
    "tnfw",
    "nfw",
    "dpie",
    "rod",
)


@pytest.mark.parametrize("entry", entries(*DEFLECTIONS))
def test_deflection_and_convergence_meet_the_vectors_in_float64(entry):
    profile, params = _params(entry)
    x, y = positions(entry)
    alpha_x, alpha_y = profile.deflection(x, y, **params)
    if entry["kind"] == "multipole_ell":  # a constant deflection is a source shift
        alpha_x, alpha_y = alpha_x - alpha_x.mean(), alpha_y - alpha_y.mean()
    assert_meets(entry, alpha_x=alpha_x, alpha_y=alpha_y)
    if "kappa" in entry["out"]:
        assert_meets(entry, kappa=profile.convergence(x, y, **params))


@pytest.mark.parametrize("library", ["numpy", "jax"])
@pytest.mark.parametrize("entry", entries(*DEFLECTIONS))
def test_deflection_meets_the_vectors_in_float32(entry, library):
    profile, params = _params(entry)
    x, y = positions(entry, np.float32)
    if library == "jax":  # which has logarithms of its own
        x, y = map(import_module("jax.numpy").asarray, (x, y))
    alpha_x, alpha_y = map(np.asarray, profile.deflection(x, y, **params))
    assert alpha_x.dtype == np.float32
    if entry["kind"] == "multipole_ell":
        alpha_x, alpha_y = alpha_x - alpha_x.mean(), alpha_y - alpha_y.mean()
    steep = entry["kind"] == "epl" and params["q"] < 0.6
    # theta_E of the ring where the profile has none of its own.
    size = max(params.get("theta_E", 1.0), 1.0) if entry["kind"] != "shear" else 1.0
    for name, value in {"alpha_x": alpha_x, "alpha_y": alpha_y}.items():
        error = np.abs(value - np.array(entry["out"][name]))
        assert error.max() <= (5e-6 if steep else FLOAT32) * size, name


@pytest.mark.parametrize("entry", entries("sie_kappa"))
def test_sie_convergence_meets_the_vectors(entry):
    profile, params = _params(entry)
    assert_meets(entry, kappa=profile.convergence(*positions(entry), **params))


@pytest.mark.parametrize("entry", entries("tnfw_mass2d", "nfw_mass2d"))
def test_projected_mass_meets_the_vectors(entry):
    x = np.array(entry["out"]["x"])
    tau = entry["params"].get("tau")
    assert_meets(entry, mass_over_m0=nfw_mass(x) if tau is None else tnfw_mass(x, tau))


@pytest.mark.parametrize("entry", entries("tnfw_mass2d"))
def test_projected_mass_is_stable_in_float32(entry):
    x = np.array(entry["out"]["x"], dtype=np.float32)
    truth = np.array(entry["out"]["mass_over_m0"])[x < 50]
    found = tnfw_mass(x[x < 50], entry["params"]["tau"])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, truth, rtol=1e-4)


@pytest.mark.parametrize("entry", entries("tnfw_total"))
def test_total_mass_of_the_truncated_halo(entry):
    assert_meets(entry, mass_over_m0=tnfw_total_mass(entry["params"]["tau"]))


@pytest.mark.parametrize("entry", entries("vortex_points"))
def test_row_of_points_meets_the_vector(entry):
    p = entry["params"]
    x, y = positions(entry)
    along = np.linspace(-p["half_len"], p["half_len"], p["n"])
    alpha_x, alpha_y = PROFILES["point_mass"].deflection(
        x[:, None],
        y[:, None],
        p["theta_e"] / math.sqrt(p["n"]),
        along * math.cos(p["phi"]),
        along * math.sin(p["phi"]),
    )
    assert_meets(entry, alpha_x=alpha_x.sum(1), alpha_y=alpha_y.sum(1))


@pytest.mark.parametrize("Om0", [0.05, 0.3, 0.9])
def test_distances_are_those_of_astropy(Om0):
    from astropy.cosmology import FlatLambdaCDM

    ours, theirs = FlatLCDM(H0=67.0, Om0=Om0), FlatLambdaCDM(H0=67.0, Om0=Om0, Tcmb0=0.0)
    for z in (1e-3, 0.5, 2.0, 20.0, 1100.0):
        assert ours.distance(z) == pytest.approx(theirs.angular_diameter_distance(z).value, 1e-11)
    comoving = theirs.comoving_distance(2.0) - theirs.comoving_distance(0.5)
    assert ours.distance_between(0.5, 2.0) == pytest.approx(comoving.value / 3.0, 1e-11)


@pytest.mark.parametrize("entry", entries("distances_mpc"))
def test_distances(entry):
    p = entry["params"]
    model = FlatLCDM(H0=p["h0"], Om0=p["om0"])
    assert_meets(
        entry,
        d_l=model.distance(p["z_l"]),
        d_s=model.distance(p["z_s"]),
        d_ls=model.distance_between(p["z_l"], p["z_s"]),
    )


@pytest.mark.parametrize("entry", entries("sigma_crit"))
def test_critical_surface_density(entry):
    p = entry["params"]
    model = FlatLCDM(H0=p["h0"], Om0=p["om0"])
    per_arcsec2 = cosmology.critical_surface_density(model, p["z_l"], p["z_s"])
    kpc = model.kpc_per_arcsec(p["z_l"])
    assert_meets(entry, msun_per_arcsec2=per_arcsec2, msun_per_kpc2=per_arcsec2 / kpc**2)
    if "kpc_per_arcsec" in entry["out"]:
        assert_meets(entry, kpc_per_arcsec=kpc)


@pytest.mark.parametrize("entry", entries("theta_e_sis"))
def test_isothermal_einstein_radius(entry):
    p = entry["params"]
    model = FlatLCDM(H0=p["h0"], Om0=p["om0"])
    found = cosmology.einstein_radius_isothermal(model, p["sigma_v"], p["z_l"], p["z_s"])
    assert_meets(entry, theta_e=found)


@pytest.mark.parametrize("entry", entries("theta_e_point"))
def test_point_einstein_radius_right_and_legacy(entry):
    p = entry["params"]
    model = FlatLCDM(H0=p["h0"], Om0=p["om0"])
    right = cosmology.critical_surface_density(model, p["z_l"], p["z_s"])
    legacy = cosmology.legacy_critical_surface_density(model, p["z_l"], p["z_s"])
    assert_meets(
        entry,
        theta_e=cosmology.einstein_radius_point(p["mass"], right),
        theta_e_legacy=cosmology.einstein_radius_point(p["mass"], legacy),
    )


@pytest.mark.parametrize("entry", entries("source_plane_scaling"))
def test_source_plane_scaling(entry):
    p = entry["params"]
    model = FlatLCDM(H0=p["h0"], Om0=p["om0"])
    found = cosmology.source_plane_scaling(model, p["z_l"], p["z_s"], p["z_conv"])
    assert_meets(entry, factor=found)


@pytest.mark.parametrize("entry", entries("vortex_half_length"))
def test_vortex_half_length(entry):
    found = vortex.half_length_legacy(np.array(entry["out"]["log10_m"]))
    assert_meets(entry, half_len=found)


@pytest.mark.parametrize("entry", entries("de_broglie_kpc"))
def test_de_broglie_length(entry):
    p = entry["params"]
    found = [
        2 * math.pi * cosmology.reduced_de_broglie_length(m, v)
        for m, v in zip(p["m_ev"], p["v_kms"], strict=True)
    ]
    assert_meets(entry, lam=found)


@pytest.mark.parametrize("entry", entries("sersic"))
def test_sersic_brightness_and_flux(entry):
    p = entry["params"]
    brightness = light.sersic_brightness(
        *positions(entry), p["r_eff"], p["n"], p["e1"], p["e2"], p["x0"], p["y0"]
    )
    total = p["amp"] * light.sersic_flux(p["r_eff"], p["n"])
    assert_meets(entry, brightness=p["amp"] * brightness, total=total)


@pytest.mark.parametrize("entry", entries("noise"))
def test_noise_of_every_instrument_of_the_table(entry):
    from pipeline.physics.instrument import load_instrument

    instrument = load_instrument(entry["name"].removeprefix("noise_"))
    time = instrument.total_time
    assert instrument.psf.fwhm == entry["params"]["seeing"]
    source = detector.variance(np.ones((1, 1, 1)), (instrument,)) - detector.variance(
        np.zeros((1, 1, 1)), (instrument,)
    )
    assert_meets(
        entry,
        background_rms_cps=detector.background_rms(instrument, time),
        poisson_rms_cps_at_1=math.sqrt(source.item()),
        cps_mag25=light.count_rate(25.0, instrument.zero_point),
    )


@pytest.mark.parametrize("entry", entries("power_law_icdf"))
def test_power_law_quantile_and_mean(entry):
    p = entry["params"]
    limits = (p["m_lo"], p["m_hi"], p["slope"])
    mean = base.power_law_moment(*limits, 1) / base.power_law_moment(*limits, 0)
    assert_meets(entry, m=base.power_law(np.array(entry["out"]["u"]), *limits), mean=mean)


@pytest.mark.parametrize("entry", entries("concentration_dm14"))
def test_concentration_and_the_radii_that_follow(entry):
    z = entry["params"]["z"]
    model = FlatLCDM(H0=100.0 * entry["params"]["h"])
    mass = np.array(entry["out"]["m"])
    c = subhalos.concentration(mass, z, model)
    assert_meets(
        entry,
        c200=c,
        rs_kpc=subhalos.nfw_scale_radius(mass, c, z, model),
        m0=subhalos.nfw_scale_mass(mass, c),
        rt_kpc_r50=subhalos.truncation_radius(mass, np.full(mass.shape, 50.0)),
    )


@pytest.mark.parametrize("entry", entries("wdm"))
def test_warm_dark_matter_suppression(entry):
    mass = np.array(entry["out"]["m"])
    m_hm = wdm.half_mode_mass(entry["params"]["m_kev"])
    assert_meets(
        entry,
        m_hm=m_hm,
        sub=wdm.subhalo_suppression(mass, m_hm),
        field=wdm.field_suppression(mass, m_hm),
        conc=wdm.concentration_factor(mass, m_hm, entry["params"]["z"]),
    )


@pytest.mark.parametrize("entry", entries("fdm"))
def test_fuzzy_dark_matter_suppression(entry):
    mass = np.array(entry["out"]["m"])
    m_0 = fdm.suppression_mass(entry["params"]["m22"] * 1e-22)
    assert_meets(entry, factor=fdm.subhalo_suppression(mass, m_0))


@pytest.mark.parametrize("entry", entries("granules"))
def test_granule_convergence(entry):
    p = entry["params"]
    found = [
        fdm.granule_sigma_kappa(p["kappa"], p["f_dm"], length, p["r_kpc"])
        for length in p["lam_kpc"]
    ]
    assert_meets(entry, sigma_kappa=found)


@pytest.mark.parametrize("entry", entries("shmf"))
def test_subhalo_number_and_mass_density(entry):
    p = entry["params"]
    args = (p["m_lo"], p["m_hi"], p["sigma_sub"], p["slope"], p["m_host"], p["z"])
    limits = (p["m_lo"], p["m_hi"], p["slope"])
    mean = base.power_law_moment(*limits, 1) / base.power_law_moment(*limits, 0)
    number = subhalos.number_density(*args)
    assert_meets(entry, number_per_kpc2=number, mass_per_kpc2=number * mean)


@pytest.mark.parametrize("entry", entries("compensation"))
def test_compensated_einstein_radius(entry):
    p, rod = entry["params"], entry["params"]["rod"]
    host = Host(
        z_lens=0.5,
        z_source=1.0,
        theta_E=p["theta_e"],
        m200=1e13,
        sigma_v=300.0,
        cosmology=FlatLCDM(),
        sigma_crit=1.0,
        kpc_per_arcsec=1.0,
        center_x=0.0,
        center_y=0.0,
        slope=p["gamma"],
    )
    names = {"theta_e": "theta_E", "half_len": "half_length", "phi": "phi", "s": "core"}
    names |= {"x0": "center_x", "y0": "center_y"}
    perturbers = Perturbers(
        profile="rod",
        z=np.array([0.5]),
        params={ours: np.array([rod[theirs]]) for theirs, ours in names.items()},
        mass=np.array([1.0]),
    )
    a_bar = mean_deflection((perturbers,), host, p["theta_e"])
    found = macro_einstein_radius(p["theta_e"], p["gamma"], a_bar)
    assert_meets(entry, a_bar=a_bar, theta_e_macro=found)


@pytest.mark.parametrize("entry", entries("legacy_noise"))
def test_moments_of_the_legacy_counts(entry):
    p = entry["params"]
    mean, variance = detector.legacy_count_moments(
        np.array(entry["out"]["mu"]), p["exp_time"], p["bkg_rms"]
    )
    assert_meets(entry, mean=mean, variance=variance)


@pytest.mark.parametrize("entry", entries("rng"))
def test_first_numbers_of_an_image(entry):
    p = entry["params"]
    rng = image_rng(p["seed"], p["index"], p["stream"])
    assert_meets(entry, random=rng.random(4), normal=rng.standard_normal(2))


def test_every_kind_of_vector_is_tested_somewhere():
    if not FILE.is_file():
        pytest.skip("the developers' shared/ folder is not beside the checkout")
    assert kinds() == HERE | ELSEWHERE | TO_COME
