//! The rules: names, what they say, where they are explained.

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// As used in `# check=skip=…`.
    pub name: &'static str,
    /// What it demands.
    pub description: &'static str,
    /// Last part of its page's address.
    page: &'static str,
    /// Off unless asked for.
    pub experimental: bool,
}

impl Rule {
    /// Page that explains it.
    pub fn url(&self) -> String {
        format!("https://docs.docker.com/go/dockerfile/rule/{}/", self.page)
    }
}

const fn stable(name: &'static str, page: &'static str, description: &'static str) -> Rule {
    Rule {
        name,
        description,
        page,
        experimental: false,
    }
}

/// All rules, by name.
pub const RULES: [Rule; 21] = [
    stable(
        "ConsistentInstructionCasing",
        "consistent-instruction-casing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
    ),
    stable(
        "CopyIgnoredFile",
        "copy-ignored-file",
        "Attempting to Copy file that is excluded by .dockerignore",
    ),
    stable(
        "DuplicateStageName",
        "duplicate-stage-name",
        "Stage names should be unique",
    ),
    stable(
        "ExposeInvalidFormat",
        "expose-invalid-format",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
    ),
    stable(
        "ExposeProtoCasing",
        "expose-proto-casing",
        "Protocol in EXPOSE instruction should be lowercase",
    ),
    stable(
        "FromAsCasing",
        "from-as-casing",
        "The 'as' keyword should match the case of the 'from' keyword",
    ),
    stable(
        "FromPlatformFlagConstDisallowed",
        "from-platform-flag-const-disallowed",
        "FROM --platform flag should not use a constant value",
    ),
    stable(
        "InvalidDefaultArgInFrom",
        "invalid-default-arg-in-from",
        "Default value for global ARG results in an empty or invalid base image name",
    ),
    Rule {
        name: "InvalidDefinitionDescription",
        description: "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
        page: "invalid-definition-description",
        experimental: true,
    },
    stable(
        "JSONArgsRecommended",
        "json-args-recommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    ),
    stable(
        "LegacyKeyValueFormat",
        "legacy-key-value-format",
        "Legacy key/value format with whitespace separator should not be used",
    ),
    stable(
        "MaintainerDeprecated",
        "maintainer-deprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    ),
    stable(
        "MultipleInstructionsDisallowed",
        "multiple-instructions-disallowed",
        "Multiple instructions of the same type should not be used in the same stage",
    ),
    stable(
        "NoEmptyContinuation",
        "no-empty-continuation",
        "Empty continuation lines will become errors in a future release",
    ),
    stable(
        "RedundantTargetPlatform",
        "redundant-target-platform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    ),
    stable(
        "ReservedStageName",
        "reserved-stage-name",
        "Reserved words should not be used as stage names",
    ),
    stable(
        "SecretsUsedInArgOrEnv",
        "secrets-used-in-arg-or-env",
        "Sensitive data should not be used in the ARG or ENV commands",
    ),
    stable(
        "StageNameCasing",
        "stage-name-casing",
        "Stage names should be lowercase",
    ),
    stable(
        "UndefinedArgInFrom",
        "undefined-arg-in-from",
        "FROM command must use declared ARGs",
    ),
    stable(
        "UndefinedVar",
        "undefined-var",
        "Variables should be defined before their use",
    ),
    stable(
        "WorkdirRelativePath",
        "workdir-relative-path",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
    ),
];

/// The rule of that name.
pub fn rule(name: &str) -> Option<&'static Rule> {
    static ALL: [Rule; 21] = RULES;
    ALL.iter().find(|rule| rule.name == name)
}
