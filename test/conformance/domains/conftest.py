"""The published clients were generated for a server without domains. This gives them the domain: every method takes pulp_domain,
as the methods of clients generated with domains do, and the paths of collections have it in them."""

import contextvars
import functools
import importlib
import inspect
import pkgutil

import pulpcore.client

current = contextvars.ContextVar("domain", default="default")
ROOT = "/pulp/api/v3/"


def in_domain(method):
    @functools.wraps(method)
    def wrapper(*args, pulp_domain=None, **kwargs):
        if pulp_domain is None:
            return method(*args, **kwargs)
        token = current.set(pulp_domain)
        try:
            return method(*args, **kwargs)
        finally:
            current.reset(token)

    return wrapper


def with_domain(serialize):
    @functools.wraps(serialize)
    def wrapper(self, *args, resource_path, **kwargs):
        if resource_path.startswith(ROOT):
            resource_path = f"/pulp/{current.get()}/api/v3/" + resource_path[len(ROOT):]
        return serialize(self, *args, resource_path=resource_path, **kwargs)

    return wrapper


def pytest_configure(config):
    for client in pkgutil.iter_modules(pulpcore.client.__path__, "pulpcore.client."):
        module = importlib.import_module(client.name)
        module.ApiClient.param_serialize = with_domain(module.ApiClient.param_serialize)
        for name, cls in inspect.getmembers(module, inspect.isclass):
            if name.endswith("Api"):
                for method, function in list(vars(cls).items()):
                    if callable(function) and not method.startswith("_"):
                        setattr(cls, method, in_domain(function))
