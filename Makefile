# Builds and installs the hook, `blq` and their documentation, for the Kea whose headers are installed.
#
# make                                     builds
# make install [DESTDIR=DIR] [PREFIX=DIR]  installs, building nothing
# make uninstall [DESTDIR=DIR] [PREFIX=DIR]
#
# With PREFIX, everything is below it. Without, PREFIX is /usr/local, but the hook's directory is that of
# Kea: Kea 2.6.3 and later load hooks from no other.

KEA_LIBDIR := $(shell pkg-config --variable=libdir kea 2>/dev/null)
TRIPLET := $(shell $(CC) -dumpmachine)

ifeq ($(origin PREFIX),undefined)
PREFIX := /usr/local
HOOKDIR ?= $(or $(KEA_LIBDIR),/usr/lib/$(TRIPLET))/kea/hooks
endif
HOOKDIR ?= $(PREFIX)/lib/$(TRIPLET)/kea/hooks
BINDIR ?= $(PREFIX)/bin
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
DOCDIR ?= $(DATADIR)/doc
DEBUGDIR ?= $(PREFIX)/lib/debug
BASH_DIR ?= $(DATADIR)/bash-completion/completions
ZSH_DIR ?= $(DATADIR)/zsh/vendor-completions
FISH_DIR ?= $(DATADIR)/fish/vendor_completions.d

# Whether debug information is moved from the installed files to DEBUGDIR. A package builder
# does this itself.
SPLIT ?= yes

CARGO ?= cargo
CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR
INSTALL ?= install
OBJCOPY ?= objcopy

release := $(CARGO_TARGET_DIR)/release
manual := $(CARGO_TARGET_DIR)/manual
library := libdhcp_blq.so
# Installed where links from one to another lead to. Those for contributors are left out.
documents := README.md SECURITY.md blq/README.md benches/README.md benches/growth.svg \
	$(filter-out docs/architecture.md,$(wildcard docs/*.* docs/*/*.json))
examples := $(wildcard kea-config-examples/*.* kea-config-examples/apparmor/*)

.PHONY: all install uninstall

all:
	$(CARGO) build --release --locked --package kea-blq --package blq --package blq-manual
	$(release)/blq-manual $(manual)
	scripts/third-party >$(manual)/third-party.txt

install:
	$(INSTALL) -D -m 644 $(release)/$(library) $(DESTDIR)$(HOOKDIR)/$(library)
	$(INSTALL) -D -m 755 $(release)/blq $(DESTDIR)$(BINDIR)/blq
ifeq ($(SPLIT),yes)
	$(call split,$(release)/$(library),$(DESTDIR)$(HOOKDIR)/$(library))
	$(call split,$(release)/blq,$(DESTDIR)$(BINDIR)/blq)
endif
	$(INSTALL) -D -m 644 $(manual)/blq.1 $(DESTDIR)$(MANDIR)/man1/blq.1
	$(INSTALL) -D -m 644 $(manual)/blq-status.1 $(DESTDIR)$(MANDIR)/man1/blq-status.1
	$(INSTALL) -D -m 644 $(manual)/blq $(DESTDIR)$(BASH_DIR)/blq
	$(INSTALL) -D -m 644 $(manual)/_blq $(DESTDIR)$(ZSH_DIR)/_blq
	$(INSTALL) -D -m 644 $(manual)/blq.fish $(DESTDIR)$(FISH_DIR)/blq.fish
	$(foreach file,$(documents),$(call document,$(file),$(file)))
	$(foreach file,$(examples),$(call document,$(file),$(file:kea-config-examples/%=examples/%)))
	ln -sfn examples $(DESTDIR)$(DOCDIR)/kea-blq-hook/kea-config-examples
	$(INSTALL) -D -m 644 blq/README.md $(DESTDIR)$(DOCDIR)/blq/README.md
	$(INSTALL) -m 644 $(manual)/third-party.txt $(DESTDIR)$(DOCDIR)/kea-blq-hook
	$(INSTALL) -m 644 $(manual)/third-party.txt $(DESTDIR)$(DOCDIR)/blq

uninstall:
	rm -f $(foreach file,$(HOOKDIR)/$(library) $(BINDIR)/blq,$(DESTDIR)$(DEBUGDIR)/$(call debug_file,$(DESTDIR)$(file)))
	rm -f $(DESTDIR)$(HOOKDIR)/$(library) $(DESTDIR)$(BINDIR)/blq $(DESTDIR)$(MANDIR)/man1/blq.1 \
		$(DESTDIR)$(MANDIR)/man1/blq-status.1 \
		$(DESTDIR)$(BASH_DIR)/blq $(DESTDIR)$(ZSH_DIR)/_blq $(DESTDIR)$(FISH_DIR)/blq.fish
	rm -rf $(DESTDIR)$(DOCDIR)/kea-blq-hook $(DESTDIR)$(DOCDIR)/blq

# The path below DEBUGDIR at which debuggers look for the debug information of a program or library.
debug_file = $(shell readelf -n $(1) | sed -n 's|.*Build ID: \(..\)|.build-id/\1/|p').debug

# Installs a document: $(call document,FILE,PLACE)
define document
$(INSTALL) -D -m 644 $(1) $(DESTDIR)$(DOCDIR)/kea-blq-hook/$(2)

endef

# Strips an installed file, and installs its debug information: $(call split,BUILT,INSTALLED)
define split
$(INSTALL) -d $(dir $(DESTDIR)$(DEBUGDIR)/$(call debug_file,$(1)))
$(OBJCOPY) --only-keep-debug $(1) $(DESTDIR)$(DEBUGDIR)/$(call debug_file,$(1))
chmod 644 $(DESTDIR)$(DEBUGDIR)/$(call debug_file,$(1))
$(OBJCOPY) --strip-unneeded $(2)
endef
