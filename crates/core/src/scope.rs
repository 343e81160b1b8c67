//! Who may touch which rows, as a type.
//!
//! Every read and write of a project's data takes a [`ProjectScope`] or a [`SystemScope`], so a query that forgot to
//! ask whose data it is does not compile.

use crate::id::ProjectId;

/// The right to see and change one project's data. Made where authority was proved: a key, a session, the operator.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ProjectScope(ProjectId);

impl ProjectScope {
    /// The scope of this project. Call it only after authority over the project was shown.
    pub const fn granted(project: ProjectId) -> Self {
        ProjectScope(project)
    }

    /// The project.
    pub const fn project(self) -> ProjectId {
        self.0
    }
}

/// The right of the engine and of the operator's command line to see all projects.
#[derive(Copy, Clone, Debug)]
pub struct SystemScope(());

impl SystemScope {
    /// The engine's scope: its loops serve every project.
    pub const fn engine() -> Self {
        SystemScope(())
    }

    /// The operator's scope: whoever can run the binary on the data directory owns the instance.
    pub const fn operator() -> Self {
        SystemScope(())
    }
}
