"""Chat templates, rendered as the models' own texts say, in a sandbox."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.sources import Source
from seedlm.host.chat import ChatTemplate

pytest.importorskip("jinja2", reason="renders chat templates, and jinja2 is not installed")

# With a line for each statement, as people write them: their ends and indents are not part of the text.
TEMPLATE = """\
{{ bos_token }}
{%- if messages[0]['role'] != 'system' %}
    {{- '<|system|>\\nBe brief.' + eos_token }}
{%- endif %}
{%- for message in messages %}
    {%- if message['role'] == 'other' %}{% continue %}{% endif %}
    {{- '<|' + message['role'] + '|>\\n' + message['content'] | trim + eos_token }}
{%- endfor %}
{% if add_generation_prompt %}
<|assistant|>
{% endif %}
"""
EXPECTED = "<s><|system|>\nBe brief.</s><|user|>\nHow?</s><|assistant|>\n"


def opened(folder: Path, template=None, **files) -> Source:
    """A folder with these entries of tokenizer_config.json."""
    said = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "pad_token": None}
    if template is not None:
        said["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return Source(folder, {})


def test_render(tmp_path):
    chat = ChatTemplate(opened(tmp_path, TEMPLATE))
    assert chat.render(" How? ") == EXPECTED
    assert chat.eos == "</s>"


def test_where_it_stands(tmp_path):
    """A file of its own comes first; of several the default one."""
    named = [{"name": "tool_use", "template": "tool"}, {"name": "default", "template": "plain"}]
    assert ChatTemplate(opened(tmp_path, named)).render("") == "plain"
    assert ChatTemplate(opened(tmp_path, named, chat_template__jinja="own")).render("") == "own"


def test_what_templates_may_use(tmp_path):
    text = "{{ {'a': 'ß'} | tojson }}{{ strftime_now('%Y') | length }}{{ messages | length }}"
    assert ChatTemplate(opened(tmp_path, text)).render("x") == '{"a": "ß"}41'
    with pytest.raises(SeedLMError, match=r"the chat template fails: ValueError: no such role"):
        ChatTemplate(opened(tmp_path, "{{ raise_exception('no such role') }}")).render("x")


@pytest.mark.parametrize(
    "text",
    ["{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ raise_exception.__globals__.x }}",
     "{{ messages.append(1) }}", "{{ range(10000000) | list }}", "{{ nothing.at.all }}"],
)  # fmt: skip
def test_sandbox(tmp_path, text):
    """What a template has no business with is one line."""
    with pytest.raises(SeedLMError, match="the chat template fails") as caught:
        ChatTemplate(opened(tmp_path, text)).render("x")
    assert "\n" not in str(caught.value)


def test_errors(tmp_path, monkeypatch):
    with pytest.raises(SeedLMError, match=r"has no chat template: expected chat_template.jinja, or 'chat_template' in"):
        ChatTemplate(opened(tmp_path))
    with pytest.raises(SeedLMError, match=r"tokenizer_config.json: not a chat template: TemplateSyntaxError"):
        ChatTemplate(opened(tmp_path, "{% if %}"))
    monkeypatch.setitem(sys.modules, "jinja2.sandbox", None)
    with pytest.raises(SeedLMError, match=r"needs the package jinja2: pip install 'seedlm\[chat\]'"):
        ChatTemplate(opened(tmp_path, "x"))
