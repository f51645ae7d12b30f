//! Judges the names that pickles import: usual for model weights, unknown, or able to run any code.

use serde::{Deserialize, Serialize};

/// How dangerous an import is, from harmless to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImportDanger {
    /// Model weights and settings need it; it only builds data.
    Usual,
    /// A class or function that is not known: its code runs when the file is loaded.
    Unknown,
    /// It can run commands, import modules, or open network connections.
    Dangerous,
}

/// Names that files of `torch.save`, numpy and scikit-learn import, mostly those that
/// `torch.load(weights_only=True)` accepts (torch, `_weights_only_unpickler.py`). Whole names,
/// never prefixes: most of these modules contain something dangerous as well.
const USUAL: [&str; 32] = [
    "__builtin__.bytearray",
    "__builtin__.dict",
    "__builtin__.list",
    "__builtin__.object",
    "__builtin__.set",
    "__builtin__.tuple",
    "_codecs.encode",
    "argparse.Namespace",
    "builtins.bytearray",
    "builtins.complex",
    "builtins.dict",
    "builtins.list",
    "builtins.object",
    "builtins.set",
    "builtins.slice",
    "builtins.tuple",
    "collections.Counter",
    "collections.OrderedDict",
    "collections.defaultdict",
    "copyreg._reconstructor",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.float64",
    "torch.Size",
    "torch.Tensor",
    "torch.device",
    "torch._tensor._rebuild_from_type_v2",
    "torch.nn.parameter.Parameter",
];

/// Modules, as prefixes with a dot at the end, that can be used to run code. A module is listed as
/// a whole, as attackers choose the one function that a list of names forgot
/// (`operator.attrgetter`, `functools.partial`).
const DANGEROUS: [&str; 45] = [
    "__builtin__.",
    "_io.",
    "_pickle.",
    "aiohttp.",
    "asyncio.",
    "bdb.",
    "builtins.",
    "cloudpickle.",
    "code.",
    "codeop.",
    "commands.",
    "cProfile.",
    "ctypes.",
    "dill.",
    "distutils.",
    "ftplib.",
    "functools.",
    "httplib.",
    "http.client.",
    "importlib.",
    "io.",
    "joblib.",
    "marshal.",
    "multiprocessing.",
    "nt.",
    "operator.",
    "os.",
    "pathlib.",
    "pdb.",
    "pickle.",
    "pip.",
    "pkgutil.",
    "posix.",
    "posixpath.",
    "profile.",
    "pty.",
    "requests.",
    "runpy.",
    "shutil.",
    "socket.",
    "subprocess.",
    "sys.",
    "timeit.",
    "urllib.",
    "webbrowser.",
];

/// Functions of torch and numpy that load, compile or run code. The rest of these libraries is
/// `Unknown`.
const DANGEROUS_NAMES: [&str; 7] = [
    "numpy.testing._private.utils.runstring",
    "torch.hub.load",
    "torch.hub.load_state_dict_from_url",
    "torch.jit.load",
    "torch.load",
    "torch.serialization.load",
    "torch.storage._load_from_bytes",
];

impl ImportDanger {
    /// Judges a full name, `module.name`.
    pub(super) fn of_import(name: &str) -> Self {
        if USUAL.contains(&name) || is_torch_type(name) {
            return Self::Usual;
        }
        let is_dangerous = DANGEROUS_NAMES.contains(&name)
            || DANGEROUS.iter().any(|module| name.starts_with(module));
        if is_dangerous { Self::Dangerous } else { Self::Unknown }
    }
}

/// Whether a name is one of torch's own data types: functions such as
/// `torch._utils._rebuild_tensor_v2`, storages such as `torch.FloatStorage`, and number types.
fn is_torch_type(name: &str) -> bool {
    let types = [
        "bfloat16",
        "bool",
        "complex128",
        "complex32",
        "complex64",
        "float16",
        "float32",
        "float64",
        "float8_e4m3fn",
        "float8_e5m2",
        "int16",
        "int32",
        "int64",
        "int8",
        "uint8",
    ];
    let Some(rest) = name.strip_prefix("torch.") else { return false };
    rest.strip_prefix("_utils.").is_some_and(|name| name.starts_with("_rebuild_"))
        || rest.strip_prefix("storage.").unwrap_or(rest).ends_with("Storage")
            && !rest.contains("..")
        || types.contains(&rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_they_can_do() {
        for (name, danger) in [
            ("collections.OrderedDict", ImportDanger::Usual),
            ("torch._utils._rebuild_tensor_v2", ImportDanger::Usual),
            ("torch.FloatStorage", ImportDanger::Usual),
            ("torch.storage.UntypedStorage", ImportDanger::Usual),
            ("torch.bfloat16", ImportDanger::Usual),
            ("torch.jit.load", ImportDanger::Dangerous),
            ("builtins.eval", ImportDanger::Dangerous),
            ("builtins.getattr", ImportDanger::Dangerous),
            ("posix.system", ImportDanger::Dangerous),
            ("os.path.exists", ImportDanger::Dangerous),
            ("osprey.Model", ImportDanger::Unknown),
            ("sklearn.linear_model._base.LinearRegression", ImportDanger::Unknown),
            ("(unknown).(unknown)", ImportDanger::Unknown),
        ] {
            assert_eq!(ImportDanger::of_import(name), danger, "{name}");
        }
    }
}
